"""From a decoded image to a network's input; start at `preprocessing_factory.get_preprocessing`."""
