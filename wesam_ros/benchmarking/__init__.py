"""How long the engines take, and with how much memory, against SamPredictor in the same run."""
