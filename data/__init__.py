"""Turn CT volumes into slices for networks.

In the order in which data flows:

download     command: a public cohort is fetched, verified, unpacked
fetch        one file over HTTP, resumed and verified
archives     tar and zip, unpacked without trust
phantom/     command: a synthetic cohort, drawn by a program

folders      folders to read from, on disk or inside zip files
volumes      a CT or its labels: NIfTI read, checked, written; spacing and pairs
dicom        a DICOM series as a volume
seg          DICOM SEG, read and written
cohorts/     a folder of volumes becomes cases: one file a cohort

prepare      command: a cohort becomes a store
parallel     many cases at once, where no bad case stops the others
convert      one case becomes square slices
anatomy      does a volume lie as its header says?
resize       slices to the size of a store, probabilities back
splits       who trains, who validates, who tests
store        the slices of a cohort on disk
folds        command: stores for cross-validation by patient

scaling      the range of HU, a window, the median inside a mask
inputs       how each network's input is made, by name; its target
masks        the first network's liver masks, which the second one sees
clinical     a weak label of the tumor load from clinical tables
augment      random changes of training slices
batches      slices as batches for Keras
volume_batches   3D crops as batches for Keras
runs         what a run directory holds: systems, phases, records

command      shared by all commands: the parser, one-line errors, exit codes
stages       several commands in one process, numbered
progress     bars, or a line a minute, with the time left
files        files written whole or not at all; hashes
environment  versions, machine, git commit, memory
backend      Keras as the other rooms use it
"""
