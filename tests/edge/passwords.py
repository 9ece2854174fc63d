"""Random passwords for tests of what is printed."""

import random
import re


def generate_passwords(count):
    """Return passwords with at least one character that ends the host of a URL, and no white space."""
    generator = random.Random(0)
    alphabet = "/#?@:,;%&=+[]$!'\"\\XYZQW01389"
    passwords = []
    for _ in range(count):
        characters = [*generator.choices(alphabet, k=generator.randint(8, 16)), generator.choice("/?#")]
        generator.shuffle(characters)
        passwords.append("".join(characters))
    return passwords


def find_pieces(password, text):
    """Return what a text has of a password: all of it, or a part between characters that end a part of a URL."""
    pieces = {password, *re.findall(r"[^/#?@,:]{3,}", password)}
    return [piece for piece in pieces if piece in text]
