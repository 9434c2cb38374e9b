"""`python -m noisybench`."""

from noisybench.cli.app import main

main()
