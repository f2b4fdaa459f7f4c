"""Clips to the loudspeaker. Needs the extra `play`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sao_onnx.clip import Clip


def require_player() -> Any:
    """The module that plays.

    Raises:
        MissingExtraError: It is not installed.
        Error: It is, and the system's PortAudio is not.
    """
    from sao_onnx.errors import Error, MissingExtraError

    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError("playing", "sounddevice", "play") from error
    except OSError as error:
        raise Error(f"playing needs PortAudio ({error}); on Debian: sudo apt install libportaudio2") from error
    return sounddevice


def play(clip: Clip) -> None:
    """Play a clip to its end.

    Raises:
        MissingExtraError: The player is not installed.
        Error: There is no loudspeaker, or it does not take the clip.
    """
    from sao_onnx.errors import Error

    player = require_player()
    try:
        player.play(clip.samples.T, clip.sample_rate, blocking=True)
    except player.PortAudioError as error:
        raise Error(f"the clip cannot be played: {error}") from error
