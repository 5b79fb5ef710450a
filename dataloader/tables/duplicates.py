"""Recordings that stand in a data set more than once."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


CONTENT, RECORDIST = "content", "label_author_length"  # the rules


def find_duplicates(metadata: "pd.DataFrame") -> list[tuple[str, str, str]]:
    """``(filename, duplicate_of, rule)`` of every recording that repeats an earlier one.

    Two rules: ``content``, the files are equal to the byte; ``label_author_length``, the rule of the
    BirdCLEF 2024 winners: one label, one author, one length in samples. The second fits recordings
    at their full length. Where all were cut to one length it says too much; then keep them.

    Args:
        metadata: with ``filename``, ``labels``, ``digest``, ``samples`` and, for the second rule, ``author``.
    """
    first: dict[tuple, str] = {}
    content_of: dict[str, str] = {}
    duplicates = []
    authors = metadata["author"] if "author" in metadata else [""] * len(metadata)
    columns = (metadata["filename"], metadata["labels"], metadata["digest"], metadata["samples"], authors)
    for filename, labels, digest, samples, author in zip(*columns, strict=True):
        content_of[filename] = digest
        content, recordist = (CONTENT, digest), (RECORDIST, labels, author.strip(), samples)
        rules = [content, recordist] if author.strip() else [content]
        original = next((first[rule] for rule in rules if rule in first), None)
        if original:
            duplicates.append((filename, original, CONTENT if content_of[original] == digest else RECORDIST))
        for rule in rules:  # a later copy of a copy is told as one of the original
            first.setdefault(rule, original or filename)
    return duplicates


def merge_duplicates(metadata: "pd.DataFrame", duplicates: list[tuple[str, str, str]], *, drop: bool) -> "pd.DataFrame":
    """Bring each recording and its duplicates together.

    With ``drop`` one of them is left, with the labels of all, in the foreground and in the background. Without,
    exact copies keep to one group, so that no split has the one on this side and the other on that.
    """
    of = {filename: original for filename, original, _ in duplicates} if drop else _exact_copies(metadata)
    rows = metadata.set_index("filename", drop=False)
    labels, behind, groups = dict(rows["labels"]), dict(rows["secondary_labels"]), dict(rows["group"])
    joined: dict[str, str] = {}
    for copy, original in of.items():
        for its in labels, behind:
            its[original] = tuple(dict.fromkeys(its[original] + its[copy]))
        first, second = sorted((_last(joined, groups[copy]), _last(joined, groups[original])))
        if first != second:
            joined[second] = first
    merged = metadata.assign(group=[_last(joined, group) for group in metadata["group"]])
    if not drop:
        return merged
    for column, its in (("labels", labels), ("secondary_labels", behind)):
        merged[column] = [its[name] for name in merged["filename"]]
    return merged[~merged["filename"].isin(of)].reset_index(drop=True)


def _exact_copies(metadata: "pd.DataFrame") -> dict[str, str]:
    """Recordings whose bytes are those of an earlier one -> that one."""
    first: dict[str, str] = {}
    pairs = zip(metadata["filename"], metadata["digest"], strict=True)
    return {name: first[digest] for name, digest in pairs if first.setdefault(digest, name) != name}


def _last(joined: dict[str, str], group: str) -> str:
    """Follow the joins from ``group`` to their end."""
    while group in joined:
        group = joined[group]
    return group
