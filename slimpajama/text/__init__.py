"""Words: text cut by jieba, each word flagged as carrying content or not."""
