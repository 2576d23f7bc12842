/* A target of the benchmark of runtimes: GenAI through its C API. MODEL TOKENS */
#include <stddef.h>
#include <stdlib.h>

typedef void *result;
result OgaCreateModel(const char *, void **);
result OgaCreateTokenizer(const void *, void **);
result OgaCreateSequences(void **);
result OgaTokenizerEncode(const void *, const char *, void *);
result OgaCreateGeneratorParams(const void *, void **);
result OgaGeneratorParamsSetSearchNumber(void *, const char *, double);
result OgaCreateGenerator(const void *, const void *, void **);
result OgaGenerator_AppendTokenSequences(void *, const void *);
result OgaGenerator_GenerateNextToken(void *);

static void check(result failure) {
  if (failure)
    exit(3);
}

int main(int count, char **words) {
  void *model, *tokenizer, *sequences, *parameters, *generator;
  check(OgaCreateModel(words[1], &model));
  check(OgaCreateTokenizer(model, &tokenizer));
  check(OgaCreateSequences(&sequences));
  check(OgaTokenizerEncode(tokenizer, "the rain in spain", sequences));
  check(OgaCreateGeneratorParams(model, &parameters));
  check(OgaGeneratorParamsSetSearchNumber(parameters, "max_length", 256));
  check(OgaCreateGenerator(model, parameters, &generator));
  check(OgaGenerator_AppendTokenSequences(generator, sequences));
  for (int number = atoi(words[2]); number; number--)
    check(OgaGenerator_GenerateNextToken(generator));
  return count < 3;
}
