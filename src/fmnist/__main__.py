"""`python -m fmnist` is the command line."""

from fmnist.cli import main

if __name__ == "__main__":
    main()
