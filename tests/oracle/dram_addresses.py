"""Where a burst lies, digit by digit of its number."""

FIELDS = ("row", "column", "bank", "bank_group", "rank", "pseudo_channel", "channel")


def place_of(burst, digits, shape):
    """Return the channel of a burst, its bank in there, and its row; no digit is hashed."""
    fields = dict.fromkeys(FIELDS, 0)
    for digit in digits:
        fields[digit.field] += burst % digit.size * digit.weight
        burst //= digit.size
    rank_bits = (shape.ranks - 1).bit_length()
    bank = (fields["pseudo_channel"] << rank_bits) + fields["rank"]
    bank = (bank * shape.bank_groups + fields["bank_group"]) * shape.banks + fields["bank"]
    return fields["channel"], bank, fields["row"]
