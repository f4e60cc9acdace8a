"""What users and plugin authors test with: scripted models that need no network and no key.

Each framework's part is a module of its own, imported only where that framework is installed.
"""
