"""A drained worker does not listen, as its consumer confirms."""

from __future__ import annotations

from unittest.mock import Mock

from celery import Celery
from kombu.exceptions import OperationalError

from worker.intake import Intake


def test_the_consumer_is_told_once_and_again_until_it_has_heard() -> None:
    app = Mock(spec=Celery)
    app.control.cancel_consumer.side_effect = [OperationalError(), [], [{"w@here": {"ok": "."}}]]
    app.control.add_consumer.return_value = [{"w@here": {"ok": "."}}]
    intake = Intake(app, "w@here", "jobs.tiny")

    intake.keep(open_=True)
    assert not app.control.add_consumer.called
    for _ in range(5):
        intake.keep(open_=False)
    assert app.control.cancel_consumer.call_count == 3
    assert app.control.cancel_consumer.call_args.args == ("jobs.tiny",)
    assert app.control.cancel_consumer.call_args.kwargs["destination"] == ["w@here"]
    for _ in range(2):
        intake.keep(open_=True)
    assert app.control.add_consumer.call_count == 1
