"""When success is said wrongly, who is wrong, and how often?"""
