def test_x(foundation):
    assert foundation.operator.read("members:me:show")
