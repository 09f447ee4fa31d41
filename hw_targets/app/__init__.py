"""The application on top of both packages: the command line, the stages of a run, run folders, reports."""
