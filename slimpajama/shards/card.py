def data_card(*a): return b""
def croissant(*a): return b"{}"
