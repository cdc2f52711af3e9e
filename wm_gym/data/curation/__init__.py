"""What is in a dataset, and which of it should be trained on?"""
