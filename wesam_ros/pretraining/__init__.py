"""How the shipped `tiny` model was made: scenes of the simulator's source domain, and the training itself."""
