"""What replies and error bodies of servers are taken for."""

import json
import math
from email.utils import formatdate

import pytest

from mmpc_analysis.catalogue.picture_requests import retry_after
from mmpc_analysis.completion.answers import FINISH_REASONS
from mmpc_analysis.completion.server_replies import (
    Failure,
    error_words,
    finish_reason,
    read_replies,
    redact,
    rejected_fields,
)


def body(message=None, reason="stop", **more):
    return {"choices": [{"message": {"content": "Mug"} | (message or {}), "finish_reason": reason} | more]}


@pytest.mark.parametrize(
    "theirs,ours",
    [("stop", "stop"), ("eos", "stop"), ("word", "stop"), ("length", "length"), ("limit", "length"),
     ("max_tokens", "length"), ("content_filter", "filter"), ("SAFETY", "filter"), ("tool_calls", "tool_calls"),
     ("function_call", "tool_calls"), ("abort", "abort"), ("repetition", "repetition"), (None, "unknown"),
     ("none", "unknown"), ("a_reason_of_2027", "unknown"), ("", "unknown"), (7, "unknown")],
)  # fmt: skip
def test_finish_reasons(theirs, ours):
    assert finish_reason(theirs) == ours and ours in FINISH_REASONS
    assert read_replies(body(reason=theirs))[0].finish_reason == ours


def test_a_stop_type_of_llama_cpp_is_used_where_no_reason_stands():
    assert read_replies(body(reason=None, stop_type="eos"))[0].finish_reason == "stop"
    assert read_replies(body(reason=None, stop_type="none"))[0].finish_reason == "unknown"


@pytest.mark.parametrize(
    "message,text,reason",
    [
        ({"content": None, "reasoning": "I see a cup", "finish": 1}, "", "stop"),
        ({"content": "Mug", "reasoning_content": "I see a cup"}, "Mug", "stop"),
        ({"content": [{"type": "text", "text": "Red "}, {"type": "text", "text": "Mug"}]}, "Red Mug", "stop"),
        (
            {"content": [{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "Mug"}]},
            "Mug",
            "stop",
        ),
        ({"content": ["Red ", "Mug"]}, "Red Mug", "stop"),
        ({"content": [None, {"text": "Mug"}]}, "Mug", "stop"),
        ({"content": None, "refusal": "I can't."}, "I can't.", "refusal"),
        ({"content": "{", "refusal": "I can't."}, "I can't.", "refusal"),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No.", "refusal"),
        ({"content": None, "tool_calls": [{"id": 1}]}, "", "tool_calls"),
        ({"content": 12}, "", "stop"),
    ],
)
def test_messages(message, text, reason):
    found = read_replies(body(message))
    assert (found[0].text, found[0].finish_reason) == (text, reason)


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": "many"}, {"prompt_tokens": True}, [1], {"prompt_tokens": 0}]
)  # fmt: skip
def test_usage_that_is_not_told_is_nan(usage):
    found = read_replies(body() | {"usage": usage})[0]
    assert math.isnan(found.input_tokens) and math.isnan(found.output_tokens)


def test_several_choices_share_what_was_written():
    two = {"choices": [body()["choices"][0]] * 2, "usage": {"prompt_tokens": 10, "completion_tokens": 6}}
    assert [(r.input_tokens, r.output_tokens) for r in read_replies(two)] == [
        (10, 3)
    ] * 2  # One question, two answers


@pytest.mark.parametrize(
    "told", [None, [], {}, {"content": None}, {"content": [{}]}, {"content": [{"logprob": math.nan}]}]
)
def test_logprobs_that_are_not_told_are_nan(told):
    found = read_replies(body(logprobs=told))[0]
    assert math.isnan(found.logprob) and math.isnan(found.least_logprob)


def test_logprobs_are_a_mean_and_a_least():
    tokens = [{"logprob": value} for value in (-0.25, -3.0, -0.5, -0.25)]
    found = read_replies(body(logprobs={"content": tokens}))[0]
    assert (found.logprob, found.least_logprob) == (-1.0, -3.0)


@pytest.mark.parametrize(
    "reply,status,passes",
    [
        (None, 0, True), ([], 0, True), ("text", 0, True), ({}, 0, True), ({"choices": []}, 0, True),
        ({"choices": [None]}, 0, True), ({"choices": [{"message": None}]}, 0, True), ({"choices": "x"}, 0, True),
        ({"error": {"message": "overloaded", "code": 503}}, 503, True),
        ({"error": {"message": "overloaded", "code": "429"}}, 429, True),
        ({"error": {"message": "bad", "type": "invalid_request_error"}}, 400, False),
        ({"error": "the engine died"}, 500, True),
        ({"choices": [{"message": {"content": "Mu"}, "finish_reason": "error"}]}, 500, True),
        ({"choices": [{"message": {"content": ""}, "error": {"message": "x", "code": 403}}]}, 403, False),
    ],
)  # fmt: skip
def test_what_is_no_reply_is_a_failure(reply, status, passes):
    found = read_replies(reply)
    assert isinstance(found, Failure) and (found.status, found.passes) == (status, passes)


def test_the_words_of_a_200_with_an_error_are_kept():
    assert "the engine died" in read_replies({"error": "the engine died"}).reason


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529, 0])
def test_failures_that_may_pass(status):
    assert Failure(status, "x").passes


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 415, 422, 301, 307])
def test_failures_that_do_not(status):
    assert not Failure(status, "x").passes


@pytest.mark.parametrize(
    "text,words,field",
    [
        ('{"error": {"message": "no", "param": "n", "code": null, "type": "bad"}}', "no", "n"),
        ('{"error": "plain"}', "plain", ""),
        (
            '{"detail": "Unexpected fields in the request: {\'guided_json\'}"}',
            "Unexpected fields",
            "guided_json",
        ),
        (
            '{"detail": [{"loc": ["body", "seed"], "msg": "Input should be an integer"}]}',
            "Input should be",
            "seed",
        ),
        ('{"object": "error", "message": "too long", "code": 400}', "too long", ""),
        ('[{"error": {"message": "quota"}}]', "quota", ""),
        ("Internal Server Error", "Internal Server Error", ""),
        ("<html><style>a{b}</style><body><h1>413 Too Large</h1></body></html>", "413 Too Large", ""),
        ("", "", ""),
        ("{", "{", ""),
    ],
)
def test_error_bodies(text, words, field):
    found = error_words(text)
    assert words in found[0] and found[1] == field


def test_words_are_short_and_name_the_field():
    words, field, code = error_words(json.dumps({"error": {"message": "no " * 900, "param": "top_k"}}))
    assert len(words) <= 400 and "it rejects top_k" in Failure(400, words, field, code).reason


@pytest.mark.parametrize(
    "text,wait", [("3", 3.0), ("0.5", 0.5), ("0", 0.0), ("-4", 0.0), ("600", 600.0), (formatdate(1100, usegmt=True), 100.0),
                  (formatdate(10), 0.0), ("Thu, 01 Jan 1970 00:18:20 +0000", 100.0)]
)  # fmt: skip
def test_retry_after(text, wait):
    assert retry_after({"retry-after": text}, now=1000.0) == wait


@pytest.mark.parametrize(
    "headers",
    [{}, {"retry-after": "soon"}, {"retry-after": "nan"}, {"retry-after": "inf"}, {"retry-after": ""}],
)
def test_retry_after_without_sense(headers):
    assert math.isnan(retry_after(headers))


def test_milliseconds_come_first():
    assert retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25


SENT = {"top_k", "repetition_penalty", "response_format", "max_completion_tokens", "seed"}


@pytest.mark.parametrize(
    "text,fields",
    [
        ('{"detail": "Unexpected fields in the request: {\'top_k\', \'repetition_penalty\'}"}', {"top_k", "repetition_penalty"}),
        ('{"error": {"message": "Unrecognized request argument supplied: top_k"}}', {"top_k"}),
        ('{"error": {"message": "Unsupported parameter: \'max_completion_tokens\'", "param": "max_completion_tokens"}}', {"max_completion_tokens"}),
        ('{"error": {"message": "response_format is not supported by this model"}}', {"response_format"}),
        ('{"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}', {"seed"}),
        ('{"error": {"message": "not supported", "param": "response_format.json_schema"}}', {"response_format"}),
        ('{"error": {"message": "max_completion_tokens is too large: 900. Maximum context length is 512 tokens"}}', set()),
        ('{"error": {"message": "At most 1 image may be provided; unsupported"}}', set()),
        ('{"error": {"message": "the picture cannot be read"}}', set()),
    ],
)  # fmt: skip
def test_fields_that_a_server_rejects(text, fields):
    for status in (400, 422):
        assert rejected_fields(Failure(status, *error_words(text)), SENT) == fields
    assert rejected_fields(Failure(500, *error_words(text)), SENT) == set()


def test_keys_are_taken_out():
    assert redact("key sk-1 and sk-1", "sk-1") == "key *** and ***" and redact("nothing", "") == "nothing"


KEY = "sk/proj/0123456789abcdef"


@pytest.mark.parametrize("gap", range(370, 402))
@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        lambda told: json.dumps(told).replace("/", "\\/"),
        lambda told: json.dumps(told).replace("s", "\\u0073"),
    ],
)
def test_no_part_of_a_key_is_left_at_the_border(gap, write):
    words, field, code = error_words(
        write({"error": {"message": "x" * gap + KEY, "param": KEY, "code": KEY}}), KEY
    )
    assert words == ("x" * gap + "***")[:400] and (field, code) == ("***", "***")


def test_a_key_in_json_within_json_is_taken_out():
    inner = json.dumps({"error": f"bad key {KEY}"}).replace("/", "\\/")
    for text in (json.dumps({"error": {"message": inner}}), json.dumps({"detail": json.dumps(inner)})):
        words = error_words(text, KEY)[0]
        assert "***" in words and "proj" not in words and "0123" not in words
        assert json.loads(redact(text, KEY))  # Still JSON


def test_a_text_without_the_key_stays_as_it_is():
    text = r"a path C:\\n\/ and sk\/proj, \u0073, . and *"
    assert redact(text, KEY) == text and redact(text, "") == text
    assert redact("a.b axb", "a.b") == "*** axb" and redact(r"say \"q\" now", 'q"') == r"say \"*** now"
