"""``python -m smallnets``, the command."""

from smallnets.cli import main

if __name__ == "__main__":
    main()
