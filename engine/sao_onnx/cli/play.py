"""Plays clips. Needs the extra `play`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sao_onnx.clip import Clip


def require_player() -> Any:
    """The sounddevice module.

    Raises:
        MissingExtraError: It is not installed.
        SaoOnnxError: The PortAudio library of the system is not installed.
    """
    from sao_onnx.errors import MissingExtraError, SaoOnnxError

    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError("playing", "sounddevice", "play") from error
    except OSError as error:
        raise SaoOnnxError(f"playing needs PortAudio ({error}); on Debian: sudo apt install libportaudio2") from error
    return sounddevice


def play(clip: Clip) -> None:
    """Play a clip to its end.

    Raises:
        MissingExtraError: The player is not installed.
        SaoOnnxError: There is no output device, or it refuses the format of the clip.
    """
    from sao_onnx.errors import SaoOnnxError

    player = require_player()
    try:
        player.play(clip.samples.T, clip.sample_rate, blocking=True)
    except player.PortAudioError as error:
        raise SaoOnnxError(f"the clip cannot be played: {error}") from error
