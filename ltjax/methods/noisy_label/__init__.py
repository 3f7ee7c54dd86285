"""Methods for training sets in which some labels are wrong."""
