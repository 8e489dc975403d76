"""From Hydra's jobs to rows: which jobs one program trains, their folders, their progress."""
