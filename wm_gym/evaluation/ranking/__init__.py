"""Does a world rank policies as physics does?"""
