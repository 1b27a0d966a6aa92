VIEWS = ()
