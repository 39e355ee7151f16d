"""The demo model: a tiny Wan that knows coloured shapes in motion, its training and its judge."""
