"""Fixtures that several rooms share. Each real part has its own module under tests/fixtures."""

pytest_plugins = [
    "tests.fixtures.ranks",
    "tests.fixtures.redis",
    "tests.fixtures.s3",
    "tests.fixtures.tiny_wan",
    "tests.fixtures.tiny_families",
    "tests.fixtures.webhooks",
]
