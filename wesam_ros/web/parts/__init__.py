"""The cards of the page: each shows one thing, and is refreshed by the page."""
