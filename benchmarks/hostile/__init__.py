"""What a hostile or broken caller sends: requests made from a seed and a number, so that each can be made again."""
