"""Text, or any sequence of ids, written on by a network, one id after another.

A causal network that has read t ids need not read them again to go on, as long as what later
positions want to know of earlier ones is kept. A layer that looks along time takes part by
``empty_past(batch, length)``, a dictionary of arrays, the first axis of each that of the texts, and
of counters. While the network writes, that dictionary
stands in the layer's ``cache["past"]``, and ``forward`` is called with the next position only: it
reads the past and adds the new position. Attention keeps keys and values, recurrent layers keep
their memory, position layers keep how far they are. All shapes stay the same from position to
position, so that one compiled step serves all of them.

In a network of several inputs one is that of the text, and the others are its context. What they
alone lead to, such as an encoder's output, is worked out once; so is what a layer like
``CrossAttention`` makes of it, which it adds to its past when it reads the first position.

A layer without ``empty_past`` must say of a position alone what it says of it among others. That is
tried out on random inputs before anything is written. A container with a ``forward`` of its own
speaks for the layers inside: if some of them keep a past, give it an ``empty_past`` too, which
returns ``{}`` where the container itself has nothing to remember.
"""

from xpnn.generation.beams import Beams
from xpnn.generation.reader import Reader
from xpnn.generation.sampling import sample
from xpnn.generation.writing import beam_search, generate

__all__ = ["Beams", "Reader", "beam_search", "generate", "sample"]
