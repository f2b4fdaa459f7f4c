"""The texts that an audio file carries, in UTF-8 in every format.

libsndfile writes and reads them, too, but it does not give back comments of 2 kB and more in WAV, knows no more than Latin-1 in
MP3, and makes Opus files that cannot be read when the texts are long. So each kind of file has a module here, with a function
that puts texts into an encoded file and one that reads them. What is read may come from anybody: every size is held against a
limit.
"""
