"""The Celery side: claim, gang, store, finish."""
