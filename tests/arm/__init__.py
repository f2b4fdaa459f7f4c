"""The engine on emulated Arm cores."""
