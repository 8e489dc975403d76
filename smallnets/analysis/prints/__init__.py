"""The pictures for print, by Matplotlib: PDF and PNG, legible in greyscale."""
