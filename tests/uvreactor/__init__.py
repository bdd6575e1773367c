"""The uvloop reactor, judged by Twisted's own cases and by cases of ours."""
