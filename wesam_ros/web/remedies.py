"""Diagnostics in plain words, with what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wesam_ros.web.values import NodeHealth

SILENT_SECONDS = 4.0
"""Nodes report once a second; one that was not heard for so long is told of."""
OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"

COUNTERS = {
    "unmatched": ("{n} requests on {of} had no picture with their time.", "Have the detector copy the header of the picture that it saw."),
    "late": ("{n} requests on {of} came after their picture was forgotten.", "Raise ring_length, or make the detector faster."),
    "unstamped": ("{n} messages on {of} had no time of their own.", "Have the driver stamp each picture."),
    "missing": ("{n} pictures came without {of}.", "Look at the camera's synchronisation, or raise sync_slop."),
    "rejected": ("{n} inputs were refused: {of}.", "The node's log says why, and what would be taken."),
    "foreign": ("{n} boxes on {of} cannot be of this picture.", "Set detections_size to the grid of the detector's boxes."),
    "dropped": ("{n} requests on {of} were skipped for newer ones.", "That is normal on a slow machine: the newest picture counts."),
    "jumped": ("The time of {of} went back {n} times.", "Normal where a recording starts again; else look at the clock."),
    "incompatible_qos": ("{n} times a topic could not be heard.", "Make the QoS of publisher and subscriber fit; the log names them."),
    "restored": ("Learning went back to the published adapter {n} times: {of}.", "Nothing to do. If it goes on, lower adaptation.lr."),
    "failed": ("{n} times something failed: {of}.", "See the node's log; the next picture is processed as usual."),
    "nothing_new": ("There was nothing new to learn from for {n} pictures.", "Nothing to do while the scene does not change."),
    "refused": ("{n} times the fast engine was given up: {of}.", "The slower one serves. Run `wesam doctor`."),
}
"""By the first part of a counter's name: a sentence, and a remedy."""
NORMAL = ("dropped", "nothing_new", "jumped", "restored")
"""Counters that are no fault."""


@dataclass(frozen=True)
class Finding:
    """A thing that a node tells, in words: its level (ok, note, warning, error), a sentence, and what to do about it."""

    level: str
    sentence: str
    remedy: str = ""


def findings(reports: Sequence[NodeHealth], expected: Sequence[str]) -> list[Finding]:
    """All that the nodes tell, the gravest first.

    Args:
        reports: the nodes' last ones.
        expected: full names of the nodes that should report.
    """
    heard = {each.name for each in reports if each.age < SILENT_SECONDS}
    found = [
        Finding(ERROR, f"{name} does not report.", "It is starting, or has ended: look at its terminal, and start it again.")
        for name in expected
        if name not in heard
    ]
    for each in reports:
        if each.name in heard:
            found += _of_node(each)
    if not any(each.level in (WARNING, ERROR) for each in found):
        found.append(Finding(OK, "All is well."))
    order = (ERROR, WARNING, OK, NOTE)
    return sorted(found, key=lambda each: order.index(each.level))


def _of_node(report: NodeHealth) -> list[Finding]:
    found = []
    if report.level:
        counter, _, rest = report.message.partition(": ")
        remedy = COUNTERS.get(counter.partition(".")[0], ("", ""))[1]
        sentence = rest if remedy and rest else report.message
        found.append(Finding(ERROR if report.level > 1 else WARNING, f"{report.name}: {sentence}", remedy))
    for name, text in report.values.items():
        kind, _, of = name.partition(".")
        if kind in COUNTERS and text.isdigit() and int(text):
            sentence, remedy = COUNTERS[kind]
            found.append(Finding(NOTE, f"{report.name}: {sentence.format(n=text, of=of.replace('.', ', '))}", remedy))
        elif kind == "quiet":
            found.append(Finding(NOTE, f"{report.name}: {text}.", "Nothing to do if there is nothing to see."))
    return found
