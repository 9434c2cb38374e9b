"""Images: decoding by one set of rules, the cache of decoded arrays, folders, and what is noticed about them."""
