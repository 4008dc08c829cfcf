"""Which images are held out, for sources that come without splits."""
import collections
import random
from collections.abc import Sequence

from datasets.conversion.collection import Item, SplitOptions
from datasets.provider import DatasetError


def split(items: Sequence[Item], options: SplitOptions, default: int | float) -> dict[str, list[Item]]:
    """Splits items into train and validation as TF-Slim does for flowers: shuffled, the first are held out.

    Args:
      items: in an order that is the same on every machine.
      options: see there.
      default: where these do not say: how many are held out, or as a float which part of them.

    Returns:
      The items of each split, shuffled; there is no validation where nothing is held out.

    Raises:
      DatasetError: nothing would be left to train on.
    """
    items = shuffled(items, options.seed)
    held_out = next(value for value in (options.num_validation, options.validation_fraction, default)
                    if value is not None)
    count = held_out if isinstance(held_out, int) else max(round(held_out * len(items)), 1 if held_out else 0)
    if count >= len(items):
        raise DatasetError(f'{count} of {len(items)} images are to be held out, which leaves none to train on: give '
                           'a smaller --num_validation, or a --validation_fraction.')
    chosen = set(_by_place_in_class(items)[:count] if options.stratify else range(count))
    parts = {'train': [item for number, item in enumerate(items) if number not in chosen],
             'validation': [item for number, item in enumerate(items) if number in chosen]}
    return {name: part for name, part in parts.items() if part}


def shuffled(items: Sequence[Item], seed: int) -> list[Item]:
    """The items in an order that the seed gives them: Python's random.shuffle, as in TF-Slim."""
    items = list(items)
    random.Random(seed).shuffle(items)
    return items


def _by_place_in_class(items):
    """The numbers of the items in such an order that of the first n, each class has the part that it has of all."""
    sizes, seen = collections.Counter(item.label for item in items), collections.Counter()
    places = []
    for number, item in enumerate(items):
        places.append(((seen[item.label] + 0.5) / sizes[item.label], number))
        seen[item.label] += 1
    return [number for _, number in sorted(places)]


def number_of_shards(splits: dict[str, list[Item]], options: SplitOptions, default: int = 5) -> dict[str, int]:
    """The number of shards of each split: never more than it has images."""
    return {name: min(options.num_shards or default, len(items)) for name, items in splits.items()}


def refuse(name: str, options: SplitOptions) -> None:
    """Raises DatasetError where the options split what comes split already."""
    for flag in ('num_validation', 'validation_fraction', 'stratify'):
        if getattr(options, flag) not in (None, False):
            raise DatasetError(f'{name} comes in splits of its own: leave out --{flag}.')
