"""The relay: releases jobs to Celery, requeues silent ones, sends due webhooks, sweeps old files.

Several may run; one leads. Decisions are pure (`observer`, `releaser`), `board` is their side of Redis.
"""
