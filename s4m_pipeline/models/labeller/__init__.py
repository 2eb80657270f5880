"""Several teachers and several views of a picture, and one set of predictions from all of them."""
