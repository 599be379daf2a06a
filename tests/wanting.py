"""Models that no machine can run: one wants a package that is not there, one more memory than there is."""

from byrote.models import How


class Wanting:
    how = How("a model without its package", "wanting:FILE", {"scale": "a number"}, "onnx", ("no_such_package",))

    def __init__(self, rest, options, relative_to):
        self.name = "Wanting"


class Huge:
    how = How("a model of weights alone", "huge:FILE")

    def __init__(self, rest, options, relative_to):
        self.name = "Huge"
