"""`rushes doctor`: what is there, what was tried, what is wrong and how to mend it."""
