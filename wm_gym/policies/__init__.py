"""What is an agent, how is one kept, loaded, made by planning or cloning, and run in both worlds?"""
