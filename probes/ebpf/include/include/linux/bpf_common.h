/* Empty: nothing of it is needed. */
