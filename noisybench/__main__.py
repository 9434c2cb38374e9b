"""`python -m noisybench`."""

from noisybench.cli import main

main()
