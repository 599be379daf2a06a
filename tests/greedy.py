"""A parrot that wants more memory than there is: `greedy:FILE?most=N` fails as CUDA does above N images at once."""

from byrote.models import How, settings
from byrote.models.memory import short
from byrote.models.parrot import Parrot


class Greedy(Parrot):
    how = How("a parrot that is short of memory", "greedy:parrot.toml?most=4", {"most": "images at once"})

    def __init__(self, rest, options, relative_to):
        place, given = settings(rest, self.how.settings)
        super().__init__(place, options, relative_to)
        self.most = int(given["most"])
        self.asked = []

    def generate(self, requests):
        self.asked.append(len(requests))
        with short("greedy", len(requests)):
            if len(requests) > self.most:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.\nSee the documentation")
        return super().generate(requests)
