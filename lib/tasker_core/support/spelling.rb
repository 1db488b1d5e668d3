# frozen_string_literal: true

module TaskerCore
  module Support
    # Suggests a known name for a misspelled one.
    #
    # @api private
    module Spelling
      module_function

      # @param name [#to_s]
      # @param known [Array<String>]
      # @return [String, nil] the known name that is nearest in spelling, if one is near
      def nearest(name, known) = DidYouMean::SpellChecker.new(dictionary: known).correct(name.to_s).first

      # The end of an error's message: a suggestion, or else all known names.
      # @param name [#to_s]
      # @param known [Array<String>]
      # @param list [String] what introduces the known names
      # @return [String] "did you mean order?", "expected one of order, refund", or "there are none"
      def remedy(name, known, list: "expected one of")
        return "there are none" if known.empty?

        nearest = nearest(name, known)
        nearest ? "did you mean #{nearest}?" : "#{list} #{known.join(', ')}"
      end
    end
  end
end
