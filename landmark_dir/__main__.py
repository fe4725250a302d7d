"""`python -m landmark_dir`: the command line."""

from landmark_dir.cli.main import main

if __name__ == "__main__":
    main(prog_name="landmark-dir")
