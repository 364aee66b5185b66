"""Evaluation files as records: listed, opened and read as sources are."""

from functools import partial

import pyarrow as pa

from slimpajama.core.config import Config
from slimpajama.core.errors import InputError
from slimpajama.corpus.clean.normalise import normalise_block
from slimpajama.corpus.sources.discover import LEFT_OUT, NO_FILES, InputFile, check_unchanged, list_source, open_input
from slimpajama.corpus.sources.files import read, read_options

# `name` is `set: file#record`; `text` is normalised as a document's is.
RECORDS = pa.schema([("name", pa.string()), ("text", pa.large_string())])


def list_evaluations(cfg: Config) -> list[InputFile]:
    """Return the evaluation files in order, with their content's hash.

    Raises:
        InputError: A set has no file, or one cannot be read.
    """
    files = []
    for source in cfg.decontaminate.evaluations:
        for item in list_source(source, cfg):
            if not isinstance(item, InputFile):
                _, path, bad = item
                if bad is LEFT_OUT:
                    continue
                if bad is NO_FILES:
                    raise InputError(f"evaluation set {source.name} has no files", where=path)
                raise InputError(f"evaluation file: {bad.rule}", where=path, found=bad.value, expected=bad.threshold)
            files.append(item)
    return files


def read_evaluations(files: list[InputFile], cfg: Config) -> pa.Table:
    """Return every record of the files, of schema RECORDS.

    Raises:
        InputError: A record cannot be read, or a file changed meanwhile: nothing can be kept out then.
    """
    sources = {source.name: source for source in cfg.decontaminate.evaluations}
    tables = [RECORDS.empty_table()]
    for file in files:
        for batch in read(partial(open_input, file), file.path, read_options(sources[file.source], cfg.ingest)):
            for bad in batch.rejected[:1]:
                raise InputError(
                    f"evaluation file: {bad.rule}",
                    where=f"{file.path}, {bad.place}" if bad.place else file.path,
                    expected=bad.threshold,
                    found=bad.value,
                    hint="Mend or remove the record, or the set.",
                )
            own = zip(batch.table["id"].to_pylist(), batch.table["number"].to_pylist(), strict=True)
            names = [f"{file.source}: {file.path}#{number if id_ is None else id_}" for id_, number in own]
            texts = normalise_block(batch.table["text"].combine_chunks())
            tables.append(pa.table([names, texts], schema=RECORDS))
        check_unchanged(file)
    return pa.concat_tables(tables)
