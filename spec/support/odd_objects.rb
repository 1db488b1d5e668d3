# frozen_string_literal: true

# Return values of handlers that subvert their conversion to JSON.
module OddObjects
  # An object that contains itself.
  class Round
    def to_h = { self: [self] }
  end

  class Liar < Hash
    def to_json(*) = "}}}"
    def to_h = 7
    def each = raise("no")
    def to_s = "}}}"
  end

  class Word < String
    def to_json(*) = '"},"token":0'
    def to_s = "}}}"
  end
end
