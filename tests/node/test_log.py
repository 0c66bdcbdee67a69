"""Logs are one line an event, whatever a user put into a field."""

from __future__ import annotations

import io
import json
import logging

from accrete_node.log import JsonFormatter, TextFormatter

LABEL = 'two\nlines "quoted"'


def logged(formatter: logging.Formatter, **fields: object) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("a.b")
    logger.addHandler(handler)
    logger.warning("class.provisional", extra=fields)
    return stream.getvalue()


def test_a_line_for_machines_is_one_json_object():
    (line,) = logged(JsonFormatter("learner"), label=LABEL, examples=3).splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["process"]) == ("class.provisional", "warning", "learner")
    assert (event["label"], event["examples"]) == (LABEL, 3)


def test_a_line_for_people_is_one_line():
    (line,) = logged(TextFormatter("learner"), label=LABEL, examples=3).splitlines()
    assert "learner  warning class.provisional" in line
    assert json.loads(line.split("label=", 1)[1].split(" examples=")[0]) == LABEL


def test_an_error_is_told_with_its_traceback():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("server"))
    logger = logging.Logger("a.b")
    logger.addHandler(handler)
    try:
        int("why")
    except ValueError:
        logger.exception("it_broke")
    assert "ValueError: invalid literal" in json.loads(stream.getvalue())["error"]
