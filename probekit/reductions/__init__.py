"""What shrinks an activation to a feature vector (paper, section 3.4), and which reduction each tap gets."""
