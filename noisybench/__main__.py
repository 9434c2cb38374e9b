"""`python -m noisybench`."""

from noisybench.cli.app import main

if __name__ == "__main__":
    main()
