# frozen_string_literal: true

module TaskerCore
  # The base class of the gem's models, on the application's own connection, or on that of
  # `config.tasker_core.connects_to`. Read only: the SQL functions are the only writers.
  class ApplicationRecord < ActiveRecord::Base
    self.abstract_class = true
    # The application's settings of Active Record apply to its own tables only.
    self.strict_loading_by_default = false
    self.primary_key_prefix_type = nil
    self.inheritance_column = nil
    self.implicit_order_column = nil

    # @yieldparam connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] the application's, in its transaction
    # @return [Object] what the block returns
    # @raise [DatabaseError] without a connection
    def self.on_connection(&block)
      respond_to?(:with_connection) ? with_connection(&block) : yield(connection)
    rescue ActiveRecord::ConnectionNotEstablished, ActiveRecord::NoDatabaseError => e
      raise DatabaseError.new("the database cannot be used: #{e.message}")
    end

    # Names what the database cannot read. An open transaction of the caller can continue after it.
    # @api private
    # @param what [String] "the tags of task 5"
    # @raise [UnreadableError]
    def self.reading(what, &block)
      on_connection { |connection| connection.transaction_open? ? transaction(requires_new: true, &block) : yield }
    rescue ActiveRecord::StatementInvalid => e
      raise Postgres::Functions.unreadable?(e) ? UnreadableError.of(what, Postgres::Functions.message_of(e)) : e
    end

    # Runs a second statement where the database cannot read what the first one asks for.
    # @api private
    # @yieldparam sql [String]
    # @raise [UnreadableError]
    def self.reading_either(what, first, second)
      reading(what) { yield first }
    rescue UnreadableError
      reading(what) { yield second }
    end

    def readonly? = true
  end

  ActiveSupport.run_load_hooks(:tasker_core_record, ApplicationRecord)
end
