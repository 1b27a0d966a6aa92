"""The countries and territories of ISO 3166-1, by their two letters: the first, with all that follow it.

As of ISO/TC 46 N1108 (2023-04-05), by `iso3166.tab` of the IANA time zone database, which is in the public domain. EN 16931
takes these letters for the country of an address (BT-40, BT-55). Letters that are reserved or left to users (EU, UK, XK) are
no country's.
"""

COUNTRIES = frozenset(
    first + second
    for first, seconds in (
        ("A", "DEFGILMOQRSTUWXZ"),
        ("B", "ABDEFGHIJLMNOQRSTVWYZ"),
        ("C", "ACDFGHIKLMNORUVWXYZ"),
        ("D", "EJKMOZ"),
        ("E", "CEGHRST"),
        ("F", "IJKMOR"),
        ("G", "ABDEFGHILMNPQRSTUWY"),
        ("H", "KMNRTU"),
        ("I", "DELMNOQRST"),
        ("J", "EMOP"),
        ("K", "EGHIMNPRWYZ"),
        ("L", "ABCIKRSTUVY"),
        ("M", "ACDEFGHKLMNOPQRSTUVWXYZ"),
        ("N", "ACEFGILOPRUZ"),
        ("O", "M"),
        ("P", "AEFGHKLMNRSTWY"),
        ("Q", "A"),
        ("R", "EOSUW"),
        ("S", "ABCDEGHIJKLMNORSTVXYZ"),
        ("T", "CDFGHJKLMNORTVWZ"),
        ("U", "AGMSYZ"),
        ("V", "ACEGINU"),
        ("W", "FS"),
        ("Y", "ET"),
        ("Z", "AMW"),
    )
    for second in seconds
)
