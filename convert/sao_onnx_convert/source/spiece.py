"""T5's tokenizer from `spiece.model`, the form in which SentencePiece writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.source.file_kinds import actual_kind

UNIGRAM, CONTROL, USER_DEFINED = 1, 3, 4
"""Numbers in SentencePiece's format: its Unigram algorithm, and two types of pieces."""

END = "</s>"
MARK = "▁"
"""SentencePiece's sign for a space."""


def tokenizer_from_pieces(path: Path, settings: Mapping[str, Any], added: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that transformers makes of the same files (`T5Converter`): the same ids for the same text.

    Args:
        path: The `spiece.model`.
        settings: The decoded `tokenizer_config.json`, empty if there is none. Of it, `extra_ids` (100) and
            `legacy` (true) are read.
        added: The decoded `added_tokens.json`, empty if there is none: tokens after the others, and their ids.

    Raises:
        CheckpointError: The file cannot be read, or is not a Unigram model with an end token.
    """
    from transformers.convert_slow_tokenizer import import_protobuf

    model = import_protobuf().ModelProto()  # type: ignore[no-untyped-call]
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf has several implementations, with errors of their own.
        raise CheckpointError(f"{path} cannot be read as a SentencePiece model: {actual_kind(path) or error}") from error
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    if not pieces or model.trainer_spec.model_type != UNIGRAM or END not in dict(pieces):
        reason = actual_kind(path) or f"it is not a Unigram model with a token {END}"
        raise CheckpointError(f"{path} cannot be read as a SentencePiece model: {reason}")
    extra = settings.get("extra_ids", 100)
    extra = extra if isinstance(extra, int) and 0 <= extra < 10_000 else 100
    spare = [f"<extra_id_{i}>" for i in reversed(range(extra))]
    result = Tokenizer(models.Unigram([*pieces, *((token, 0.0) for token in spare)], unk_id=model.trainer_spec.unk_id))
    result.add_tokens(
        [
            AddedToken(piece.piece, normalized=False, special=piece.type == CONTROL)
            for piece in model.pieces
            if piece.type in (CONTROL, USER_DEFINED)
        ]
    )
    unknown = model.pieces[model.trainer_spec.unk_id].piece
    others = sorted((token for token in added if isinstance(added[token], int)), key=lambda token: added[token])
    result.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (unknown, *spare, *others)])
    steps = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), MARK)]
    if characters := model.normalizer_spec.precompiled_charsmap:
        steps.insert(0, normalizers.Precompiled(characters))
    result.normalizer = normalizers.Sequence(steps)
    scheme = "always" if settings.get("legacy", True) else "first"
    result.pre_tokenizer = pre_tokenizers.Metaspace(replacement=MARK, prepend_scheme=scheme)
    result.decoder = decoders.Metaspace(replacement=MARK, prepend_scheme=scheme)
    result.post_processor = processors.TemplateProcessing(f"$A {END}", special_tokens=[(END, result.token_to_id(END))])
    return result
